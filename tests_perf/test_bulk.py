"""How many images of a data set a second, over all devices of a machine or of a cluster, each image once."""

from harness.measure.bulk.run import measure_bulk


def test_bulk(bulk_crew, bulk_blocks, bulk_folder, bulk_about, timed, bulk_share, keep, bulk_facts):
    """All images answered by several workers, from when the first is handed out until the last answer is written."""
    keep(measure_bulk(bulk_crew, bulk_blocks, bulk_folder, bulk_about, timed, bulk_share), bulk_facts)
