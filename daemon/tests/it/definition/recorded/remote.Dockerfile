FROM scratch
ADD https://example.org/a/b.tar /b
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.org/c /c
ADD --unpack https://example.org/d.tar /d/
ADD https://example.org/r.git#v1:sub /r
ADD --keep-git-dir git@example.org:a/b.git /k
