from alpine:3.20 as base
run apk add --no-cache git
copy . /src
workdir /src
cmd ["make"]
