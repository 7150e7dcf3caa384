#!/bin/sh
# Sets up the database if there is none, then runs the server, or a query beside it.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --auth=trust --no-sync >/tmp/initdb.log
    pg_ctl start --silent --log /tmp/server.log --wait --options="-c listen_addresses=''"
    for script in /initdb/*.sql; do
        psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --file "$script"
    done
    pg_ctl stop --silent --wait
fi
[ "$1" = query ] || exec "$@"
pg_ctl start --silent --log /tmp/server.log --wait
psql --no-align --tuples-only --command "$2"
pg_ctl stop --silent --wait
