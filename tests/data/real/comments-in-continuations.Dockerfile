FROM debian:bookworm-slim
RUN set -eux; \
    # refresh the lists
    apt-get update; \
    # tools that are needed later
    apt-get install -y --no-install-recommends \
        # for downloads
        ca-certificates \
        curl \
    ; \
    rm -rf /var/lib/apt/lists/*
