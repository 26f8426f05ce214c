package services

import "net/http"

func (s *Services) Handler() http.Handler { return nil }
func (s *Services) APIHandler() http.Handler { return nil }
