package main

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"

	"trivium/config"
	"trivium/core/mod/upload"
	files "trivium/httpapi/upload"
)

func uploadOptions(cfg *config.Config) upload.Options {
	c := cfg.Upload
	if !c.Enabled {
		return upload.Options{}
	}
	o := upload.Options{
		URL: uploadURL(cfg), MaxSize: int64(c.MaxSize), Quota: int64(c.Quota), Files: c.MaxFiles, MaxAge: c.MaxAge, MaxTotal: int64(c.MaxTotal),
	}
	if o.Quota == 0 {
		o.Quota = -1
	}
	return o
}

// uploadURL returns the function that tells where the files of a host are: at the
// address that is configured, else at a listener, one of https before those of http.
// What clients send there in clear must not go over the network (XEP-0363 §4), so
// listeners of http count behind a proxy that speaks TLS and in development.
func uploadURL(cfg *config.Config) func(host string) string {
	if base := strings.TrimSuffix(cfg.Upload.PublicURL, "/"); base != "" {
		return func(string) string { return base + files.Path }
	}
	var public, direct string // the base; the port at the host itself
	scheme := ""
	for _, l := range cfg.Listeners {
		if !slices.Contains(l.Endpoints, "upload") {
			continue
		}
		if u, err := url.Parse(l.PublicURL); err == nil && u.Host != "" {
			if public == "" || u.Scheme == "https" && strings.HasPrefix(public, "http:") {
				public = u.Scheme + "://" + u.Host
			}
			continue
		}
		_, port, err := net.SplitHostPort(l.Address)
		if err != nil || l.Kind == config.HTTP && !cfg.Development {
			continue // a unix socket; something that only a proxy reaches
		}
		if direct == "" || l.Kind == config.HTTPS && scheme == config.HTTP {
			scheme, direct = l.Kind, port
		}
	}
	return func(host string) string {
		if !slices.ContainsFunc(cfg.Hosts, func(h config.Host) bool { return strings.EqualFold(h.Domain, host) }) {
			host = cfg.Hosts[0].Domain // files of others, such as users of a gateway
		}
		switch {
		case public != "":
			return public + files.Path
		case direct != "":
			return scheme + "://" + hostPort(host, direct, scheme) + files.Path
		}
		return ""
	}
}

// hostPort is host and port as a URL has them: an IPv6 address in brackets, no port
// that goes without saying.
func hostPort(host, port, scheme string) string {
	if scheme == config.HTTPS && port == "443" || scheme == config.HTTP && port == "80" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// newUploads opens the folder of uploads; nil when there are none.
func newUploads(ctx context.Context, e *engine) (*files.Service, error) {
	if e.features == nil || e.features.Upload == nil {
		return nil, nil
	}
	return files.New(ctx, e.features.Upload, e.cfg.Path("upload"), files.Options{Logger: e.log})
}
