"""Copies of every object on several stores: one decides, two acknowledge, all hold."""
