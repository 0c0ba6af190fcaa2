# visionmark on NVIDIA GPUs: docker build -f deploy/docker/cuda.Dockerfile -t visionmark:cuda .
# The torch wheels bring CUDA's libraries; the image has to bring the compiler's headers that torch.compile needs.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ git make numactl python3 python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
COPY . .
RUN make setup
ENV PATH=/visionmark/.venv/bin:$PATH
CMD ["pytest", "--device", "cuda"]
