# visionmark on Intel GPUs: make image DEVICE=xpu, or docker build -f deploy/docker/xpu.Dockerfile -t visionmark:xpu .
# The base has Intel's user-space driver; torch comes from the XPU index, in the version that constraints.txt pins.
ARG BASE=intel/intel-extension-for-pytorch:2.8.10-xpu
FROM ${BASE}
USER 0
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ git make numactl python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
# libraries before the code: an edit of the code installs nothing again
ARG TORCH_INDEX=https://download.pytorch.org/whl/xpu
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
CMD ["pytest", "--device", "xpu"]
