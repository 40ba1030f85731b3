# The control plane, and the user's binary beside it (for `springtide tokens create`). From the repository's root:
#   docker build -f infra/docker/control-plane.Dockerfile -t springtide-control-plane .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p springtide-control-plane -p springtide --bins && \
    install -D -t /out target/release/springtide-control-plane target/release/springtide

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --create-home --home-dir /var/lib/springtide springtide
COPY --from=build /out/ /usr/local/bin/
USER springtide
WORKDIR /var/lib/springtide
VOLUME /var/lib/springtide
ENV SPRINGTIDE__DATA_DIR=/var/lib/springtide SPRINGTIDE__TELEMETRY__FORMAT=json
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=5s CMD curl -fsS http://127.0.0.1:7860/healthz
ENTRYPOINT ["springtide-control-plane"]
