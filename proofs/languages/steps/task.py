"""An order: charges once, and sends one mail, however often it runs."""

from wasq_task import http, step, task


@task
def order(amount: int, charge: str = "", mail: str = "mail", tries: int = 1):
    def charged():
        if charge == "nested":
            return step("inner", lambda: {})
        if charge == "large":
            return {"receipt": "x" * amount}
        return http.post("https://pay.example/charges", json={"amount": amount}).success().json()

    def mailed():
        http.post("https://mail.example/", json=receipt).success()
        return True

    if charge == "many":
        for number in range(amount):
            assert step(str(number), lambda: None) is None
        return {"receipt": charge}
    try:
        receipt = step("charge", charged)
    except Exception:
        if tries < 2:
            raise
        receipt = step("charge", charged)
    step(mail, mailed)
    return receipt
