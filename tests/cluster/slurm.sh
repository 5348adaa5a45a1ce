#!/usr/bin/env bash
# One-node Slurm on a Debian machine, for tests/cluster/test_slurm.py: `slurm.sh up`, `slurm.sh down`. Needs root.
#
# `up` installs Debian's slurm-wlm and munge if they are missing, writes /etc/slurm/slurm.conf (never over one that it did
# not write) and starts munged, slurmctld and slurmd; `down` ends what `up` started and removes the file. No accounting
# database: that is why Snakemake is told to ask `squeue` for the status of jobs.
set -euo pipefail
conf=/etc/slurm/slurm.conf
mark="# written by tests/cluster/slurm.sh of hrm-lab"
state=/var/tmp/hrm-lab-slurm # logs, process ids, Slurm's own state

up() {
    [ "$(id -u)" = 0 ] || { echo "slurm.sh: got user $(id -un), expected root" >&2; exit 2; }
    if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
    fi
    if [ -e $conf ] && ! grep -qF "$mark" $conf; then
        echo "slurm.sh: $conf is somebody else's; expected none" >&2
        exit 2
    fi
    mkdir -p $state/ctld $state/slurmd /etc/slurm
    cat >$conf <<EOF
$mark
ClusterName=hrmlab
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/slurmd
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
KillWait=5
NodeName=$(hostname -s) NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    install -d -o munge -g munge -m 755 /run/munge
    if ! pgrep -x munged >/dev/null; then
        runuser -u munge -- /usr/sbin/munged --pid-file=/run/munge/munged.pid
        touch $state/munged.ours
    fi
    slurmctld
    slurmd
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && { echo "up: $(sinfo --version)"; exit 0; }
        sleep 0.5
    done
    echo "slurm.sh: the node is $(sinfo --noheader --format='%t %E' 2>&1), expected idle; see $state/*.log" >&2
    exit 1
}

down() {
    grep -qsF "$mark" $conf || { echo "down: nothing of ours is up"; exit 0; }
    scancel --user=root --state=PENDING,RUNNING 2>/dev/null || true
    for daemon in slurmd slurmctld; do
        [ -s $state/$daemon.pid ] && kill "$(cat $state/$daemon.pid)" 2>/dev/null || true
    done
    [ -e $state/munged.ours ] && kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
    sleep 1
    rm -rf $state $conf
    echo down
}

case "${1:-}" in
up | down) "$1" ;;
*) echo "usage: slurm.sh up | down" >&2; exit 2 ;;
esac
