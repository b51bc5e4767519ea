FROM debian:bookworm
ENV HOSTS=x86_64-unknown-linux-gnu
ENV CONFIGURE_ARGS \
      --enable-full-tools \
      --set target.x86_64.linker=clang \
      --set llvm.ninja=false
ENV SCRIPT ../src/ci/run.sh python3 ../x.py dist \
    --host $HOSTS --target $HOSTS
ENV REQUIRE_ALL 1
