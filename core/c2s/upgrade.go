//spec:xep-0480 0.2.0 complete | SASL Upgrade Tasks | UPGR-SCRAM-*, where accounts lack keys
package c2s

import (
	"context"
	"errors"
	"strconv"
	"time"

	"trivium/core/sasl"
	"trivium/core/stanza"
)

// Namespaces of XEP-0480.
const (
	nsUpgrade      = "urn:xmpp:sasl:upgrade:0"
	nsScramUpgrade = "urn:xmpp:scram-upgrade:0"
)

// upgrader is an optional ability of a VirtualHost's Backend: it takes keys for
// hashes that an account has none for (auth.Service.Host).
type upgrader interface {
	Upgrades() []sasl.Hash
	Lacks(ctx context.Context, username string, h sasl.Hash) (bool, error)
	Salt() (salt []byte, iterations int)
	AddKeys(ctx context.Context, username string, h sasl.Hash, k sasl.Keys, began time.Time) error
}

// upgrades returns the hashes that keys are wanted for. They do not depend on the
// account: a stranger is not to learn which there are (XEP-0388 §5).
func (s *session) upgrades() []sasl.Hash {
	b, ok := sasl.As[upgrader](s.host.Backend)
	if !ok {
		return nil
	}
	var list []sasl.Hash
	for _, h := range b.Upgrades() {
		if s.login.offer2.Uses(h) {
			list = append(list, h)
		}
	}
	return list
}

// upgradeName is the name of the task that adds keys for h (XEP-0480 §2.1).
func upgradeName(h sasl.Hash) string { return "UPGR-SCRAM-" + h.String() }

// tasksFor returns what the client has to do before it is let in: the upgrades that
// it asked for and that its account lacks. Only who has just shown the password may
// add keys of it: a token is not to become a password.
func (s *session) tasksFor(ctx context.Context, rq *loginRequest) []task {
	b, ok := sasl.As[upgrader](s.host.Backend)
	if !ok || len(rq.upgrades) == 0 || !byPassword(rq.mechanism) {
		return nil
	}
	var tasks []task
	for _, h := range s.upgrades() {
		for _, asked := range rq.upgrades {
			if asked != upgradeName(h) {
				continue
			}
			lacks, err := b.Lacks(ctx, rq.username, h)
			if err != nil {
				s.svc.log.Error("the keys of an account cannot be read", "err", err)
			} else if lacks {
				tasks = append(tasks, &scramUpgrade{backend: b, username: rq.username, hash: h, began: rq.began})
			}
			break // asked twice is asked once
		}
	}
	return tasks
}

// scramUpgrade adds keys for one hash (XEP-0480 §3).
type scramUpgrade struct {
	backend  upgrader
	username string
	hash     sasl.Hash
	began    time.Time

	salt       []byte
	iterations int
}

func (u *scramUpgrade) name() string { return upgradeName(u.hash) }

var errHash = errors.New("no <hash/> of the right size")

func (u *scramUpgrade) step(ctx context.Context, in *stanza.Element) (stanza.Payload, error) {
	if u.salt == nil {
		u.salt, u.iterations = u.backend.Salt()
		return stanza.TextEl(nsScramUpgrade, "salt", encode(u.salt)).Set("iterations", strconv.Itoa(u.iterations)), nil
	}
	hash := in.Child(nsScramUpgrade, "hash")
	if hash == nil {
		return nil, &sasl.Failure{Condition: sasl.MalformedRequest, Cause: errHash}
	}
	salted, err := decode(nsSASL2, hash.Text())
	if err != nil {
		return nil, err
	}
	keys, err := sasl.SaltedKeys(u.hash, salted, u.salt, u.iterations)
	if err != nil {
		return nil, &sasl.Failure{Condition: sasl.MalformedRequest, Cause: err}
	}
	if err := u.backend.AddKeys(ctx, u.username, u.hash, keys, u.began); err != nil {
		return nil, &sasl.Failure{Condition: sasl.TemporaryAuthFailure, Cause: err}
	}
	return nil, nil
}
