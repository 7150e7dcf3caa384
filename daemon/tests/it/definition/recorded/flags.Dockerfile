FROM alpine
RUN echo flags
RUN --mount=type=ssh echo with an agent
