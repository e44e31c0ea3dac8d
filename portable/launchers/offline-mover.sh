#!/bin/sh
# Starts the offline mover with the first Python of this machine that it runs with.
case $0 in
  */*) here=${0%/*} ;;
  *) here=. ;;
esac
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
for python in python3 python3.14 python3.13 python3.12 python3.11; do
  if "$python" -I -S -c "$fits" 2>/dev/null; then
    exec "$python" -I -S "$here/__main__.py" "$@"
  fi
done
echo 'offline-mover: no Python 3.11, 3.12, 3.13 or 3.14 was found on this machine.' >&2
exit 2
