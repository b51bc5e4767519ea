FROM golang:1.22 as build
ENV CGO_ENABLED 0
WORKDIR $GOPATH/src/example.org/tool
COPY . .
RUN go build -o $GOPATH/bin/tool
FROM alpine
COPY --from=build ["/go/bin/tool", "/bin/tool"]
ENTRYPOINT ["/bin/tool"]
