FROM alpine:3.20 AS a
RUN touch /a
FROM alpine:3.20 AS b
RUN touch /b
FROM scratch AS merged
COPY --link --from=a / /
COPY --link --from=b / /
COPY --link --chmod=644 file /file
