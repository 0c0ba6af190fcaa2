# visionmark on NVIDIA GPUs: make image DEVICE=cuda, or docker build -f deploy/docker/cuda.Dockerfile -t visionmark:cuda .
# The wheels bring CUDA's libraries, for CUDA 13, and the node a driver for it. The base is of the same CUDA, so that no
# older library is found first.
ARG BASE=nvidia/cuda:13.0.1-base-ubuntu24.04
FROM ${BASE}
# the headers of Python are for torch.compile
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ git make numactl python3 python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
# libraries before the code: an edit of the code installs nothing again
COPY constraints.txt requirements.txt ./
COPY requirements requirements/
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir -c constraints.txt -r requirements.txt -r requirements/data.txt
# The engines that need an NVIDIA GPU, 3 GB: --build-arg EXTRAS=no leaves them out. Both packages of ONNX Runtime hold
# the same module, so one has to go before the other comes.
ARG EXTRAS=yes
RUN if [ "${EXTRAS}" = yes ]; then .venv/bin/python -m pip uninstall --yes onnxruntime \
    && .venv/bin/python -m pip install --no-cache-dir -c constraints.txt -r requirements/cuda.txt; fi
# Clusters refuse root. Group 0 may write what the user may: some of them choose a user of their own, in that group.
ENV HOME=/home/visionmark USER=visionmark VISIONMARK_CACHE_DIR=/cache
RUN (getent passwd 1000 || useradd --uid 1000 --home-dir "$HOME" visionmark) && mkdir -p "$HOME" /cache /results results \
    && chown -R 1000:0 "$HOME" /cache /results results && chmod -R g=u "$HOME" /cache /results results
COPY . .
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps -e .
# last, because every commit changes it
ARG COMMIT=
ENV PATH=/visionmark/.venv/bin:$PATH VISIONMARK_COMMIT=${COMMIT}
USER 1000
CMD ["pytest", "--device", "cuda"]
