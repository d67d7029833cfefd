# Images of Postern that hold one static program and nothing else:
#
#     docker build -t postern .                                       # mio, for production
#     docker build -t postern-smol --target postern-smol .            # smol, for small hosts
#     docker build -t postern-identity --target identity .            # the development Identity service
#     docker build -t postern-dev --target dev .                      # Rust and what rebuilds on each change
#
# `deploy/compose.yaml` uses all of them. `.ci/image` builds them with buildah and looks at what came out.

ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-slim-bookworm AS toolchain
WORKDIR /src


# Builds on each change of the source, and puts the new version in place of the old one. The source is mounted at /src.
FROM toolchain AS dev
ENV CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/target
# Volumes are mounted on these two folders and inherit their mode, so that every user may write there.
RUN mkdir -p /target "$CARGO_HOME/registry" && chmod 1777 /target "$CARGO_HOME/registry"
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/src/deploy/dev"]


FROM toolchain AS build
# What to build for; without it the architecture of the builder, linked to musl. With `docker build --platform
# linux/arm64` the builder is aarch64. A static glibc (`x86_64-unknown-linux-gnu`) works, too, but resolves no names of
# hosts: then POSTERN_ASSERTION_JWKS must be a file or name an address.
ARG TARGET=
ENV CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=musl-gcc
RUN case "${TARGET:-musl}" in *musl) \
        apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/* \
        && rustup target add "${TARGET:-$(uname -m)-unknown-linux-musl}" ;; \
    esac
COPY . .
# The caches outlive a change of the source: only what has changed is built again.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    deploy/release --target "${TARGET:-$(uname -m)-unknown-linux-musl}" --out /out postern postern-smol


FROM build AS build-identity
ARG TARGET=
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    deploy/release --target "${TARGET:-$(uname -m)-unknown-linux-musl}" --out /out identity


FROM scratch AS identity
LABEL org.opencontainers.image.title="postern-identity" \
      org.opencontainers.image.description="The development Identity service: three demo users, tokens signed with JWT_SECRET" \
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
# Whom to believe when keys are fetched over HTTPS.
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
