ARG VERSION=v1.2.3-rc1
FROM alpine:3.20
ARG VERSION=v1.2.3-rc1
ENV MAJOR=${VERSION%%.*} PLAIN=${VERSION#v} BASE=${VERSION%-*} DASHED=${VERSION//./-}
LABEL version="${PLAIN:-none}" channel=${VERSION:+set}
WORKDIR /opt/${VERSION:?need a version}
