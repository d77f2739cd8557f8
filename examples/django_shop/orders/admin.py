from django.contrib import admin

from orders.models import Order, Parcel


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["id", "item", "status", "placed_at"]


admin.site.register(Parcel)
