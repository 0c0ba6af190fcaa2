# visionmark on a CPU: docker build -f deploy/docker/cpu.Dockerfile -t visionmark:cpu .
FROM python:3.11-slim-bookworm
# torch.compile calls a C++ compiler; OpenCV and OpenMP come with the wheels
RUN apt-get update && apt-get install -y --no-install-recommends g++ git make numactl && rm -rf /var/lib/apt/lists/*
WORKDIR /visionmark
COPY . .
RUN make setup
ENV PATH=/visionmark/.venv/bin:$PATH
CMD ["pytest"]
