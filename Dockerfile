# Keyward as one static binary in an empty image. How to run it: docs/production.md
#
#   docker build --tag keyward .

# The compiler of rust-toolchain.toml, on a distribution whose C library links statically.
FROM rust:1.95.0-alpine3.23 AS build
# For linux/random.h, which aws-lc includes; the C compiler is there already.
# hadolint ignore=DL3018
RUN apk add --no-cache linux-headers
WORKDIR /keyward
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/keyward/target \
    cargo build --release --locked --package keyward --bin keyward \
    && mkdir -p /image/own /image/etc/ssl/certs \
    && mkdir -m 700 /image/own/data \
    && cp target/release/keyward /image/keyward \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image/keyward /keyward
# It starts with nothing around it.
RUN ["/keyward", "--version"]
# To verify the TLS certificates of PostgreSQL and of the collector of traces.
COPY --from=build /image/etc /etc
# No name for this user is needed; 65532 is what "nonroot" is elsewhere.
COPY --from=build --chown=65532:65532 /image/own/ /
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV KEYWARD_SERVER_LISTEN=0.0.0.0:8080 \
    KEYWARD_SERVER_DATA=/data
EXPOSE 8080
# The image has no other program to ask with. With TLS, name the URL that the certificate is for: health --url https://…
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/keyward", "health"]
ENTRYPOINT ["/keyward"]
CMD ["serve"]
