# Prepares the namespaces that it is in, and starts what is given: FOLDER COMMAND…
set -e
folder=$1
shift
ip link set lo up
mount --bind "$folder/resolv.conf" /etc/resolv.conf
/usr/bin/python3 "$folder/resolver.py" &
# One test slows packets down, which not every kernel can do.
slow() {
    tc qdisc add dev lo root handle 1: prio bands 2 &&
        tc qdisc add dev lo parent 1:2 handle 20: netem delay 1ms
}
if slow 2>/dev/null; then
    tc qdisc del dev lo root
else
    export NO_SLOW_PACKETS=1
    test=test/test_prepared.py::test_prepared_statement_pipeline_latency
    echo "LEFT OUT $test - this kernel cannot slow packets down (netem)"
    set -- "$@" --deselect "$test"
fi
if /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null; then
    export HAVE_IPV6_LOCALHOST=1
fi
exec "$@"
