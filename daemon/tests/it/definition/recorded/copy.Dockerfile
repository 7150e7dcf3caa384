FROM alpine
COPY a /a
COPY a b /dir/
COPY --chown=1000:me a /owned
COPY --chown=me a b /two/
COPY --chmod=640 a /mode
COPY --chmod=u=rwX a /symbolic
COPY --link a /link
COPY --link --chown=5 a b /linked/
COPY --parents x/./y/z q/*/r /parents/
COPY --exclude=*.o --exclude=d . /some
COPY d/* ./
COPY . .
COPY <<ONE <<TWO /documents/
one
ONE
two
TWO
ADD a.tar /tar
ADD --unpack=false b.tar /packed
WORKDIR /app
COPY a .
COPY a sub/.
