"""Calls of many over an SFU: who may enter, with what rights, and who has to go. No part of it carries media."""
