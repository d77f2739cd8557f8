from django.db import models


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        PAID = "paid"
        SHIPPED = "shipped"

    item = models.CharField(max_length=100)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"order {self.pk}: {self.item}"


class Parcel(models.Model):
    """One for each order, however often a worker is killed: `ship` is a transactional step."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    label = models.CharField(max_length=100)

    def __str__(self):
        return self.label
