# visionmark on Intel GPUs: docker build -f deploy/docker/xpu.Dockerfile -t visionmark:xpu .
# The image has Intel's user-space driver; torch comes from the XPU index, in the version that constraints.txt pins.
FROM intel/intel-extension-for-pytorch:2.8.10-xpu
USER root
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ git make numactl python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
COPY . .
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/xpu
RUN make setup
ENV PATH=/visionmark/.venv/bin:$PATH
CMD ["pytest", "--device", "xpu"]
