# Debian's package has made a database in the image, which is the volume's first content.
set -e
if [ ! -e ~/hba.conf ]; then
    postgres --single --config-file=/etc/postgresql/15/main/postgresql.conf postgres <<END
alter role postgres password '$(cat /run/secrets/password)'
END
    echo 'host all all all scram-sha-256' >~/hba.conf
fi
exec postgres --config-file=/etc/postgresql/15/main/postgresql.conf --hba-file=$HOME/hba.conf \
    --listen-addresses='*' --unix-socket-directories=/tmp --external-pid-file=/tmp/pid --ssl=off --shared-buffers=16MB
