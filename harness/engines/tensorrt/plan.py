"""Building a TensorRT plan from an ONNX file."""

from __future__ import annotations

from pathlib import Path

from harness.engines.onnx.export import INPUT_NAME


class TensorRtError(RuntimeError):
    """TensorRT failed; the message holds TensorRT's own words, or says that they are on standard error."""


def build_plan(path: Path, shape: tuple[int, ...], *, tf32: bool) -> bytes:
    """Build the plan of an ONNX file for one input shape, and return it serialised.

    Args:
        path: the file, whose number formats are those that TensorRT computes in.
        shape: the shape of the input.
        tf32: whether fp32 may be computed in TF32, which is TensorRT's default.

    Raises:
        TensorRtError: the file cannot be parsed, or the plan cannot be built.
    """
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise TensorRtError("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    switch = config.set_flag if tf32 else config.clear_flag
    switch(tensorrt.BuilderFlag.TF32)
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # the evidence needs it
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TensorRtError(f"no plan for {path.name} in shape {shape}; TensorRT's own words are on standard error")
    return bytes(plan)
