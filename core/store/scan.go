package store

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"
)

// assign stores v in the variable that dest points to. The common types are
// copied here; the others go through [sql.Null], which holds database/sql's own
// rules and is where a NULL for a variable that cannot hold it is refused.
func assign(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *string:
		switch x := v.(type) {
		case string:
			*d = x
			return nil
		case []byte:
			*d = string(x)
			return nil
		}
	case *[]byte:
		switch x := v.(type) {
		case []byte:
			*d = x // the driver made this copy for us
			return nil
		case string:
			*d = []byte(x)
			return nil
		case nil:
			*d = nil
			return nil
		}
	case *int64:
		if x, ok := v.(int64); ok {
			*d = x
			return nil
		}
	case *int:
		if x, ok := v.(int64); ok && int64(int(x)) == x {
			*d = int(x)
			return nil
		}
	case *any:
		*d = v
		return nil
	case sql.Scanner:
		return d.Scan(v)
	}
	return assignSlow(dest, v)
}

func assignSlow(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *string:
		return viaNull(d, v)
	case *[]byte:
		return viaNull(d, v)
	case *bool:
		return viaNull(d, v)
	case *int:
		return viaNull(d, v)
	case *int8:
		return viaNull(d, v)
	case *int16:
		return viaNull(d, v)
	case *int32:
		return viaNull(d, v)
	case *int64:
		return viaNull(d, v)
	case *uint:
		return viaNull(d, v)
	case *uint8:
		return viaNull(d, v)
	case *uint16:
		return viaNull(d, v)
	case *uint32:
		return viaNull(d, v)
	case *uint64:
		return viaNull(d, v)
	case *float32:
		return viaNull(d, v)
	case *float64:
		return viaNull(d, v)
	case *time.Time:
		return viaNull(d, v)
	case *time.Duration:
		return viaNull(d, v)
	}
	return fmt.Errorf("cannot scan into %T", dest)
}

func viaNull[T any](dest *T, v driver.Value) error {
	var n sql.Null[T]
	if err := n.Scan(v); err != nil {
		return err
	}
	if !n.Valid {
		return fmt.Errorf("NULL does not fit %T", dest)
	}
	*dest = n.V
	return nil
}
