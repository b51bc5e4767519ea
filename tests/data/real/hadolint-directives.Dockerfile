# syntax=docker/dockerfile:1.7
# hadolint global ignore=DL3008
FROM debian:bookworm-slim
# hadolint ignore=DL3003
RUN cd /tmp && touch x
# check=skip=SecretsUsedInArgOrEnv
ENV SAMPLE_API_KEY=demo
