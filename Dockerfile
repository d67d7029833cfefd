# Images with one static program each:
#
#     docker build -t postern .                                       # mio, for production
#     docker build -t postern-smol --target postern-smol .            # smol, for small hosts
#     docker build -t postern-identity --target identity .            # the development Identity service
#     docker build -t postern-dev --target dev .                      # Rust, for rebuilding on each change
#
# `deploy/compose.yaml` uses all of them. `.ci/image` builds them with buildah and checks the results.

ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-slim-bookworm AS toolchain
WORKDIR /src


# Builds after each change of the source, and replaces the running version. The source is mounted at /src.
FROM toolchain AS dev
ENV CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/target
# Volumes that are mounted on these two folders inherit their mode, so every user can write there.
RUN mkdir -p /target "$CARGO_HOME/registry" && chmod 1777 /target "$CARGO_HOME/registry"
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/src/deploy/dev"]


FROM toolchain AS build
# The target of the build. By default it is the architecture of the builder, with musl. With `docker build --platform
# linux/arm64` the builder is aarch64. A static glibc (`x86_64-unknown-linux-gnu`) works too, but cannot resolve host
# names: POSTERN_ASSERTION_JWKS must then be a file, or a URL with an IP address.
ARG TARGET=
ENV CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=musl-gcc
RUN case "${TARGET:-musl}" in *musl) \
        apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/* \
        && rustup target add "${TARGET:-$(uname -m)-unknown-linux-musl}" ;; \
    esac
COPY . .
# The caches persist between builds, so only changed crates are built again.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    deploy/release --target "${TARGET:-$(uname -m)-unknown-linux-musl}" --out /out postern postern-smol


FROM build AS build-identity
ARG TARGET=
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    deploy/release --target "${TARGET:-$(uname -m)-unknown-linux-musl}" --out /out identity


FROM scratch AS identity
LABEL org.opencontainers.image.title="postern-identity" \
      org.opencontainers.image.description="The development Identity service, with three demo users and tokens signed with JWT_SECRET" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build-identity /out/identity /identity
USER 65532:65532
EXPOSE 9292
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/identity", "--healthcheck"]
ENTRYPOINT ["/identity"]
CMD ["--listen", "0.0.0.0:9292"]


FROM scratch AS postern-smol
LABEL org.opencontainers.image.title="postern-smol" \
      org.opencontainers.image.description="A WebSocket service behind an API gateway, for small hosts" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# The certificate authorities for fetching keys over HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/postern-smol /postern-smol
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/postern-smol", "healthcheck"]
ENTRYPOINT ["/postern-smol"]


FROM scratch AS postern
LABEL org.opencontainers.image.title="postern" \
      org.opencontainers.image.description="A WebSocket service behind an API gateway" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/postern /postern
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/postern", "healthcheck"]
ENTRYPOINT ["/postern"]
