ARG REGISTRY=2.8.3
FROM alpine:3.20 AS one
ARG FLAGS=${DEBUG:+"all=-N -l"}
RUN echo $FLAGS
ARG REGISTRY
FROM registry:$REGISTRY AS registry
FROM one
COPY --from=registry /bin/registry /usr/bin/
