FROM alpine
RUN <<EOT
echo one
echo two
EOT
RUN --mount=type=bind,target=/zz <<EOT
#!/bin/sh
echo script
EOT
SHELL ["/bin/ash", "-c"]
RUN echo shell
