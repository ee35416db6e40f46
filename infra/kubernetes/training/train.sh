#!/bin/sh
# One pod of the training: index 0 is the first machine, the others join it. `exec`, so that SIGTERM reaches tca.
set -eu
rendezvous="$JOB_NAME-0.$SERVICE:29400"
if [ "$JOB_COMPLETION_INDEX" != 0 ]; then
    exec tca join "$rendezvous" --nodes "$NODES" --processes "$PROCESSES_PER_NODE"
fi
set -- -S "train.distributed.nodes=$NODES" \
    -S "train.distributed.processes_per_node=$PROCESSES_PER_NODE" \
    -S "train.distributed.rendezvous=$rendezvous"
for override in $OVERRIDES; do
    set -- "$@" -S "$override"
done
exec tca train "$@"
