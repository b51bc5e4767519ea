FROM --platform=linux/amd64 alpine:3.20 AS amd64-tools
FROM --platform=arm64 alpine:3.20 AS arm64-tools
FROM scratch
COPY --from=amd64-tools /bin/busybox /x86_64
COPY --from=arm64-tools /bin/busybox /aarch64
