# Process 1 of a guest: an NFS server, or a client with both versions mounted, hard and soft; then
# the agent.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
. "$SHARED/environ"  # PYTHON, PYTHONPATH, LEASE
hostname "$NODE"
printf '127.0.0.1 localhost\n' > /etc/hosts
for module in virtio_net virtio_rng virtio_blk ext4; do modprobe "$module"; done
modprobe lockd nlm_grace_period=5
busybox ip link set lo up
if [ "$NODE" = server ]; then here=1; else here=2; fi
for path in /sys/class/net/eth*; do
    card=${path##*/eth}
    if [ "$NODE" = server ]; then network=10.77.$card; else network=10.77.$NUMBER; fi
    busybox ip address add "$network.$here/24" dev "eth$card"
    busybox ip link set "eth$card" up
    printf '%s\n' "$network.1 server" "$network.2 node${network##*.}" >> /etc/hosts
done
# What names hosts locks by outlives the guest's power, as on a node's own disk.
state=$SHARED/$NODE.state
mkdir -p "$state/sm" "$state/sm.bak" /run/rpcbind /var/lib/nfs/rpc_pipefs /var/lib/nfs/nfsdcld
rm -f /etc/hosts.allow /etc/hosts.deny
: > /etc/resolv.conf
mount -t rpc_pipefs pipes /var/lib/nfs/rpc_pipefs
echo '_rpc:x:990:65534::/run/rpcbind:/bin/false' >> /etc/passwd
rpcbind
rpc.statd --no-notify -P "$state"

if [ "$NODE" = server ]; then
    mkdir -p /export /etc/exports.d
    mount -t ext4 -o noatime /dev/vda /export
    chmod 1777 /export
    modprobe nfsd
    mount -t nfsd nfsd /proc/fs/nfsd
    # The root that version 4 shows can't be an overlay, so it is the export.
    echo '/export *(rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0)' > /etc/exports
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    nfsdcld
    echo "$LEASE" > /proc/fs/nfsd/nfsv4leasetime
    # Nobody reclaims anything, since the server never starts again: until this is over, no
    # client gets a lock.
    echo 10 > /proc/fs/nfsd/nfsv4gracetime
    exportfs -ra
    rpc.nfsd 8
    rpc.mountd
else
    sm-notify -f -P "$state"
    # On a soft mount, calls fail when the server answers nothing for some six seconds.
    for how in "" ,soft,timeo=30,retrans=1; do
        for version in 3 4.2; do
            place=/nfs/$version${how:+-soft}
            if [ $version = 3 ]; then export=/export; else export=/; fi
            mkdir -p "$place"
            until mount -t nfs -o "vers=$version$how" "$network.1:$export" "$place"; do
                sleep 1
            done
        done
    done
fi
while :; do "$PYTHON" "$HERE/agent.py"; done
