FROM gcr.io/distroless/static:nonroot AS base
FROM alpine:3.20 AS certs
RUN apk add --no-cache ca-certificates
FROM base
COPY --from=certs /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=busybox:1.36 /bin/busybox /bin/
COPY --from=0 /etc/passwd /etc/passwd
ENV SSL_CERT_DIR=/etc/ssl/certs
