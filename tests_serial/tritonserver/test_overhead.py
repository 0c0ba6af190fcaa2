"""What does serving add to a request?"""

from harness.triton.overhead import measure_overhead


def test_overhead(own_file_served, load_duration, timed, record_served):
    """One request at a time through gRPC, HTTP and shared memory, in turns with the same file in process."""
    record_served(measure_overhead(own_file_served, load_duration, timed))
