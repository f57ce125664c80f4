// How many public repositories a GitHub user has.
package main

import (
	"cmp"
	"fmt"
	"log"
	"log/slog"
	"os"
	"regexp"
	"time"

	"wasq/task"
)

type Params struct {
	// A user of GitHub.
	User string `json:"user"`
	// A task that gets the result as its params.
	Then string `json:"then,omitempty"`
}

type Output struct {
	User         string `json:"user"`
	Repositories int    `json:"repositories"`
}

func init() { task.Handle(githubRepositories) }
func main() {}

var userName = regexp.MustCompile("^[A-Za-z0-9-]+$")

func githubRepositories(params Params) (output Output, err error) {
	user := params.User
	if !userName.MatchString(user) {
		return output, task.Reject("params.user: %.100q is no GitHub user name", user)
	}
	repositories, err := repositoriesOf(user)
	if err != nil {
		return output, err
	}
	if repositories < 0 {
		log.Fatalf("GitHub counts %d repositories", repositories)
	}
	slog.Info("counted", "user", user, "repositories", repositories)

	output = Output{user, repositories}
	if params.Then != "" {
		if _, err := task.Enqueue(task.Child{Task: params.Then, Params: output}); err != nil {
			return output, task.Reject("params.then: %v", err)
		}
	}
	return output, nil
}

func repositoriesOf(user string) (int, error) {
	api := cmp.Or(os.Getenv("GITHUB_API"), "https://api.github.com")
	response, err := task.Send(task.Request{URL: api + "/users/" + user, Timeout: 10 * time.Second})
	if err != nil {
		return 0, err
	}
	switch response.Status {
	case 404:
		return 0, task.Reject("GitHub does not know the user %s", user)
	case 403: // GitHub reports its rate limit by this status as well.
		return 0, task.RetryAfter(time.Minute, "GitHub's rate limit (status 403)")
	}
	var found struct {
		PublicRepos *int `json:"public_repos"`
	}
	if err := response.JSON(&found); err != nil {
		return 0, err
	}
	if found.PublicRepos == nil {
		return 0, fmt.Errorf("%s: the answer has no number public_repos", response.URL)
	}
	return *found.PublicRepos, nil
}
