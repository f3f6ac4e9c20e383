// Command etcd_core measures etcd/raft as benchmarks/core.py measures raft_core: three nodes in one process, no disk.
//
// Messages are passed in memory, writes are durable at once, and committed entries are counted. It prints one JSON
// object: microseconds of processor time per entry, from its proposal until all three nodes have applied it, and the
// SHA-256 of all commands in the log, which must be equal on all nodes.
//
// benchmarks/core_peer.py runs it.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"math"
	"os"
	"runtime"
	"syscall"

	"go.etcd.io/etcd/raft"
	pb "go.etcd.io/etcd/raft/raftpb"
)

type node struct {
	raw     *raft.RawNode
	storage *raft.MemoryStorage
	applied int
}

type trio struct {
	nodes   [4]*node // by id, from 1
	queue   []pb.Message
	encoded bool
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newTrio(encoded bool) *trio {
	t := &trio{encoded: encoded}
	for id := uint64(1); id <= 3; id++ {
		storage := raft.NewMemoryStorage()
		// All nodes begin with the same members at index 1, as a node restored from a snapshot does.
		must(storage.ApplySnapshot(pb.Snapshot{Metadata: pb.SnapshotMetadata{
			Index: 1, Term: 1, ConfState: pb.ConfState{Voters: []uint64{1, 2, 3}},
		}}))
		must(storage.SetHardState(pb.HardState{Term: 1, Commit: 1}))
		raw, err := raft.NewRawNode(&raft.Config{
			ID:              id,
			ElectionTick:    50,
			HeartbeatTick:   5,
			Storage:         storage,
			Applied:         1,
			MaxSizePerMsg:   10_000_000,
			MaxInflightMsgs: 128,
			CheckQuorum:     true,
			PreVote:         true,
			Logger:          &raft.DefaultLogger{Logger: log.New(ioutil.Discard, "", 0)},
			// The same room for uncommitted entries as raft_core has by default.
			MaxUncommittedEntriesSize: 64 << 20,
			MaxCommittedSizePerReady:  math.MaxUint64,
		})
		must(err)
		t.nodes[id] = &node{raw: raw, storage: storage}
	}
	must(t.nodes[1].raw.Campaign())
	t.ready(t.nodes[1])
	t.deliver()
	if t.nodes[1].raw.BasicStatus().RaftState != raft.StateLeader {
		must(fmt.Errorf("node 1 does not lead"))
	}
	return t
}

// ready carries out what a node orders, until it orders no more.
func (t *trio) ready(n *node) {
	for n.raw.HasReady() {
		r := n.raw.Ready()
		if len(r.Entries) > 0 {
			must(n.storage.Append(r.Entries))
		}
		if !raft.IsEmptyHardState(r.HardState) {
			must(n.storage.SetHardState(r.HardState))
		}
		t.queue = append(t.queue, r.Messages...)
		for i := range r.CommittedEntries {
			if len(r.CommittedEntries[i].Data) > 0 {
				n.applied++
			}
		}
		n.raw.Advance(r)
	}
}

func (t *trio) deliver() {
	for head := 0; head < len(t.queue); head++ {
		m := t.queue[head]
		if t.encoded {
			data, err := m.Marshal()
			must(err)
			m = pb.Message{}
			must(m.Unmarshal(data))
		}
		n := t.nodes[m.To]
		must(n.raw.Step(m))
		t.ready(n)
	}
	t.queue = t.queue[:0]
}

func (t *trio) propose(commands []pb.Entry) {
	must(t.nodes[1].raw.Step(pb.Message{Type: pb.MsgProp, From: 1, Entries: commands}))
	t.ready(t.nodes[1])
	t.deliver()
}

func (t *trio) logSum(id int) (string, int) {
	storage := t.nodes[id].storage
	first, err := storage.FirstIndex()
	must(err)
	last, err := storage.LastIndex()
	must(err)
	entries, err := storage.Entries(first, last+1, math.MaxUint64)
	must(err)
	sum := sha256.New()
	count := 0
	for _, entry := range entries {
		if len(entry.Data) > 0 {
			sum.Write(entry.Data)
			count++
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), count
}

func processor() float64 {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Sec+used.Stime.Sec)*1e6 + float64(used.Utime.Usec+used.Stime.Usec)
}

func main() {
	count := flag.Int("count", 100_000, "entries")
	batch := flag.Int("batch", 1, "entries of one proposal")
	size := flag.Int("size", 64, "bytes of one entry, at least 8")
	encoded := flag.Bool("encoded", false, "encode and decode every message")
	flag.Parse()
	t := newTrio(*encoded)
	proposals := make([][]pb.Entry, *count / *batch)
	number := uint64(0)
	for i := range proposals {
		proposals[i] = make([]pb.Entry, *batch)
		for k := range proposals[i] {
			data := make([]byte, *size)
			binary.LittleEndian.PutUint64(data, number)
			proposals[i][k] = pb.Entry{Data: data}
			number++
		}
	}
	runtime.GC()
	begin := processor()
	for _, commands := range proposals {
		t.propose(commands)
	}
	spent := processor() - begin
	sum, held := t.logSum(1)
	for id := 1; id <= 3; id++ {
		other, alike := t.logSum(id)
		if other != sum || alike != held || t.nodes[id].applied != int(number) || held != int(number) {
			must(fmt.Errorf("node %d has applied %d of %d entries", id, t.nodes[id].applied, number))
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"microseconds": spent / float64(number), "entries": number, "log": sum,
	}))
}
