"""Tests of the channels, against receivers that speak their wires."""
