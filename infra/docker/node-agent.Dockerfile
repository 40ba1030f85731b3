# The node agent with its torch worker and libtorch; runs models on a GPU where the container is given one (--gpus all),
# else on the CPU. From the repository's root:
#   docker build -f infra/docker/node-agent.Dockerfile -t springtide-node-agent .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
# libtorch by way of its wheel, with its GPU libraries, in its final place: the worker finds it by its run path.
WORKDIR /src
COPY infra/models/requirements.txt infra/models/
RUN python3 -m venv /opt/torch && /opt/torch/bin/pip install --no-cache-dir -r infra/models/requirements.txt && \
    ln -s /opt/torch/lib/python3.11/site-packages/torch /opt/libtorch
COPY . .
ENV LIBTORCH=/opt/libtorch
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p springtide-node-agent -p springtide-torch-worker --bins && \
    install -D -t /out target/release/springtide-node-agent target/release/springtide-torch-worker
# Python is not needed to run: only the libraries, where the wheels have put them.
RUN mkdir /libraries && cd /opt/torch/lib/python3.11/site-packages && \
    find torch/lib nvidia -name '*.so*' -print0 | tar --null -cf - -T - | tar -xf - -C /libraries

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgomp1 && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --create-home --home-dir /var/lib/springtide springtide
COPY --from=build /libraries/ /opt/torch/lib/python3.11/site-packages/
RUN ln -s /opt/torch/lib/python3.11/site-packages/torch /opt/libtorch
COPY --from=build /out/ /usr/local/bin/
USER springtide
WORKDIR /var/lib/springtide
VOLUME /var/lib/springtide
ENV SPRINGTIDE__DATA_DIR=/var/lib/springtide SPRINGTIDE__TELEMETRY__FORMAT=json \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# It drains at SIGTERM: give it node.drain_timeout (docker stop --time 150).
STOPSIGNAL SIGTERM
ENTRYPOINT ["springtide-node-agent"]
