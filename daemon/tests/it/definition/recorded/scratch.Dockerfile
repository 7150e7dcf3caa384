FROM scratch
COPY a /a
COPY --from=alpine /bin /bin
WORKDIR /x
