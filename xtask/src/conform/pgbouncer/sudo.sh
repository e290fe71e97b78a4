#!/bin/sh
# What the tests call instead of sudo: they have the right to change their own network.
case "$NO_SLOW_PACKETS $1 $2" in
"1 tc qdisc") exit 0 ;;
esac
exec "$@"
