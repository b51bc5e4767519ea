FROM alpine:3.20
ADD --chmod=0755 https://example.org/releases/v1/tool-linux-amd64 /usr/local/bin/tool
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/linux.tar.xz /
ADD --keep-git-dir=true https://github.com/example/repo.git#v0.10.1 /src
ADD rootfs.tar.xz /
