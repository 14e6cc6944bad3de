#!/bin/sh
# A PostgreSQL server of one's own in a folder, reached by a socket in it; nothing else of the
# machine is touched. The tests start theirs with it.
#   scripts/postgres.sh install         the Debian package, where it is missing (needs root)
#   scripts/postgres.sh start FOLDER    make the server there if need be, start it, print its URL
#   scripts/postgres.sh stop FOLDER     stop it; the folder stays
# Exits 3 where PostgreSQL is not installed.
set -eu

say() { printf '%s\n' "$*" >&2; }
die() { say "postgres: $1"; exit "${2:-2}"; }

# Debian keeps the server's programs off the path.
for folder in $(command ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do PATH=$PATH:$folder; done
here() { command -v initdb >/dev/null && command -v pg_ctl >/dev/null && command -v psql >/dev/null; }

# The server refuses to run as root; then the package's own user is borrowed.
as_owner() {
  if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

case ${1:-} in
install)
  here && exit 0
  command -v apt-get >/dev/null || die "install PostgreSQL 14 or newer by hand: this is no Debian" 3
  [ "$(id -u)" = 0 ] || die "run as root: apt-get install postgresql" 3
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }; then
    die "apt could not install postgresql" 3
  fi
  ;;
start)
  folder=${2:?names no folder}
  here || die "PostgreSQL is not installed: scripts/postgres.sh install" 3
  if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
    die "runs as root, and there is no user postgres" 3
  fi
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  [ "$(id -u)" != 0 ] || chown postgres "$folder"
  if [ ! -d "$folder/data" ]; then
    as_owner initdb -D "$folder/data" -A trust -U conclave --no-sync >"$folder/initdb.log" 2>&1 ||
      die "initdb failed: $(tail -n 1 "$folder/initdb.log")"
    as_owner sh -c "printf '%s\n' \"listen_addresses = ''\" \"unix_socket_directories = '$folder'\" >>'$folder/data/postgresql.conf'"
  fi
  as_owner pg_ctl -D "$folder/data" -l "$folder/data/server.log" -w start >/dev/null ||
    die "did not start: $(tail -n 1 "$folder/data/server.log")"
  printf 'postgresql+psycopg://conclave@/postgres?host=%s\n' "$folder"
  ;;
stop)
  folder=$(cd "${2:?names no folder}" && pwd)
  as_owner pg_ctl -D "$folder/data" -m fast -w stop >/dev/null
  ;;
*) die "knows install, start FOLDER and stop FOLDER" ;;
esac
