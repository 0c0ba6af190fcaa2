"""The Kubeflow pipeline: `measure` runs visionmark in its image and keeps the numbers, `verdict` judges them.

They are two tasks because a task that fails uploads no artifact: `measure` succeeds as soon as there is a number, and
`verdict` fails where the run did. Both are container components, so the image needs visionmark alone, without kfp.
`visionmark pipeline compile` writes the YAML; docs/deploy.md says what the parameters mean.
"""

from kfp import dsl, kubernetes

IMAGE = "visionmark:cpu"
COMMAND = ["python", "-m", "commands", "pipeline"]


@dsl.container_component
def measure(
    model_name: str,
    precision: str,
    mode: str,
    batch_size: str,
    data_location: str,
    socket_id: str,
    verbose: bool,
    benchmark_or_accuracy: str,
    extra_model_args: str,
    device: str,
    engine: str,
    results_location: str,
    results: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    exit_code: dsl.OutputPath(int),
):
    """Measure, and write the numbers and the exit status of the run. Fails only where there is no number."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=[*COMMAND, "measure"],
        # every value is an argument of its own, and none goes through a shell
        args=[
            *("--model-name", model_name, "--precision", precision, "--mode", mode, "--batch-size", batch_size),
            *("--data-location", data_location, "--socket-id", socket_id, "--verbose", verbose),
            *("--benchmark-or-accuracy", benchmark_or_accuracy, "--extra-model-args", extra_model_args),
            *("--device", device, "--engine", engine, "--results-location", results_location),
            *("--results", results.path, "--summary", summary.path, "--metrics", metrics.path),
            *("--exit-code", exit_code, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            *("--executor-output", dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER),
        ],
    )


@dsl.container_component
def verdict(exit_code: int, results: dsl.Input[dsl.Artifact]):
    """Fail if the run failed, after its numbers are kept."""
    return dsl.ContainerSpec(image=IMAGE, command=[*COMMAND, "verdict"], args=[exit_code, results.path])


def pipeline(data_claim: str = "", results_claim: str = "", timeout_s: int = 7200, image: str = IMAGE):
    """Return the pipeline.

    Args:
        data_claim: the claim that is mounted at /data, read-only; empty for none. A mount takes no parameter that may
            be empty, so it is chosen when the pipeline is compiled.
        results_claim: the claim that is mounted at /results; empty for none.
        timeout_s: how long `measure` may take; Kubeflow takes no parameter for it.
        image: the default of `docker_image`.
    """

    @dsl.pipeline(name="visionmark", description="How fast and how right an image model is, on a node of this cluster")
    def visionmark(
        data_location: str = "",
        model_name: str = "resnet50",
        precision: str = "fp32",
        mode: str = "inference",
        batch_size: str = "1",
        socket_id: str = "",
        verbose: bool = False,
        benchmark_or_accuracy: str = "benchmark",
        extra_model_args: str = "",
        docker_image: str = image,
        device: str = "cpu",
        engine: str = "",
        results_location: str = "/results" if results_claim else "",
        cpu: str = "8",
        memory: str = "16Gi",
        accelerator: str = "nvidia.com/gpu",
        accelerators: int = 0,
        node_selector: dict = {"visionmark.io/measures": "true"},  # noqa: B006 - kfp reads it as the parameter's default
        tolerations: list = [{"key": "visionmark.io/measures", "operator": "Exists", "effect": "NoSchedule"}],  # noqa: B006
    ):
        run = measure(
            model_name=model_name,
            precision=precision,
            mode=mode,
            batch_size=batch_size,
            data_location=data_location,
            socket_id=socket_id,
            verbose=verbose,
            benchmark_or_accuracy=benchmark_or_accuracy,
            extra_model_args=extra_model_args,
            device=device,
            engine=engine,
            results_location=results_location,
        )
        run.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
        run.set_accelerator_type(accelerator).set_accelerator_limit(accelerators)
        kubernetes.add_node_selector_json(run, node_selector)
        kubernetes.add_toleration_json(run, tolerations)
        kubernetes.empty_dir_mount(run, "shm", "/dev/shm", medium="Memory", size_limit="2Gi")
        kubernetes.use_field_path_as_env(run, "NODE_NAME", "spec.nodeName")
        kubernetes.set_timeout(run, timeout_s)
        if data_claim:
            kubernetes.mount_pvc(run, data_claim, "/data")
        if results_claim:
            kubernetes.mount_pvc(run, results_claim, "/results")
        judged = verdict(exit_code=run.outputs["exit_code"], results=run.outputs["results"])
        for task in (run, judged):
            task.set_container_image(docker_image)
            # the key of the cache is the image's name and the values: a new image of that name would return old numbers
            task.set_caching_options(False)
            # an explicit 0: left out, the backend repeats twice what failed
            task.set_retry(num_retries=0)

    return visionmark
