FROM alpine
WORKDIR /w
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=cache,target=rel,id=named,sharing=locked \
    --mount=type=cache,target=/owned,uid=3,gid=4,mode=0700,sharing=private \
    --mount=type=tmpfs,target=/t,size=1m \
    --mount=type=tmpfs,target=/u/ \
    --mount=type=secret,id=s \
    --mount=type=secret,id=e,env=E \
    --mount=type=secret,id=f,target=/f,required,uid=1,gid=2,mode=0440 \
    --mount=type=ssh \
    --mount=type=ssh,id=k,target=/k \
    true
