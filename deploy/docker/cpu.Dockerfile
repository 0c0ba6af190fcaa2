# visionmark on a CPU: make image, or docker build -f deploy/docker/cpu.Dockerfile -t visionmark:cpu .
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
# torch.compile calls a C++ compiler; OpenCV and OpenMP come with the wheels
RUN apt-get update && apt-get install -y --no-install-recommends g++ git make numactl && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
# Libraries before the code: an edit of the code installs nothing again. PyPI's torch brings 4 GB for NVIDIA GPUs; with
# --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu it does not.
ARG TORCH_INDEX=
COPY constraints.txt requirements.txt ./
COPY requirements requirements/
RUN python3 -m venv .venv && PIP_EXTRA_INDEX_URL=${TORCH_INDEX} \
    .venv/bin/python -m pip install --no-cache-dir -c constraints.txt -r requirements.txt -r requirements/data.txt
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
CMD ["pytest"]
