FROM alpine AS other
RUN echo other > /o

FROM alpine
ENV B=2
WORKDIR /w
RUN echo one
RUN ["/bin/echo", "two"]
RUN --network=none echo none
USER root
RUN --mount=from=other,source=/o,target=/z/o \
    --mount=type=bind,target=/a \
    --mount=from=other,target=/m,rw \
    cat /z/o
