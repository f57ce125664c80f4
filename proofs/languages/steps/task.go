// An order: charges once, and sends one mail, however often it runs.
package main

import (
	"encoding/json"
	"strconv"
	"strings"

	"wasq/task"
)

type Params struct {
	Amount int     `json:"amount"`
	Charge string  `json:"charge,omitempty"`
	Mail   *string `json:"mail"`
	Tries  int     `json:"tries,omitempty"`
}

type Receipt struct {
	Receipt string `json:"receipt"`
}

func init() { task.Handle(order) }
func main() {}

func order(params Params) (Receipt, error) {
	charged := func() (receipt Receipt, err error) {
		if params.Charge == "nested" {
			return task.Step("inner", func() (Receipt, error) { return Receipt{}, nil })
		}
		if params.Charge == "large" {
			return Receipt{strings.Repeat("x", params.Amount)}, nil
		}
		err = post("https://pay.example/charges", map[string]int{"amount": params.Amount}, &receipt)
		return receipt, err
	}
	if params.Charge == "many" {
		for number := range params.Amount {
			if _, err := task.Step(strconv.Itoa(number), func() (any, error) { return nil, nil }); err != nil {
				return Receipt{}, err
			}
		}
		return Receipt{params.Charge}, nil
	}
	receipt, err := task.Step("charge", charged)
	if err != nil && params.Tries > 1 {
		receipt, err = task.Step("charge", charged)
	}
	if err != nil {
		return receipt, err
	}
	mail := "mail"
	if params.Mail != nil {
		mail = *params.Mail
	}
	_, err = task.Step(mail, func() (bool, error) {
		return true, post("https://mail.example/", receipt, nil)
	})
	return receipt, err
}

func post(url string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	response, err := task.Send(task.Request{Method: "POST", URL: url, Body: text})
	if err != nil {
		return err
	}
	if err := response.Err(); err != nil || answer == nil {
		return err
	}
	return response.JSON(answer)
}
