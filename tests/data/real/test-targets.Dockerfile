FROM golang:1.22 AS base
WORKDIR /src
FROM base AS lint
COPY --from=golangci/golangci-lint:v1.59 /usr/bin/golangci-lint /usr/bin/
RUN --mount=target=. golangci-lint run
FROM base AS test
RUN --mount=type=bind,target=.,rw --mount=type=cache,target=/root/.cache go test -coverprofile=/tmp/cover.txt ./...
FROM scratch AS coverage
COPY --from=test /tmp/cover.txt /cover.txt
FROM base AS build
RUN --mount=ro --mount=type=cache,target=/root/.cache go build -o /out ./...
FROM scratch AS binary
COPY --from=build /out .
